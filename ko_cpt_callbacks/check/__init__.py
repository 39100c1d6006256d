"""``ko-cpt check`` and ``ko-cpt compare``: what they judge and compare, and their pages."""
