"""``ko-cpt report``: runs as one HTML page that opens from disk."""
