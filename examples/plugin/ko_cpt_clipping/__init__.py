"""An example of what another package can add to ``ko_cpt_callbacks``."""
