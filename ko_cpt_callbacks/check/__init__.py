"""``ko-cpt check`` and ``ko-cpt compare``: the commands, what they judge and compare, and their pages."""
