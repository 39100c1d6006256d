"""Ways into frameworks that train by a page of YAML: the callback's arguments as a block of that page."""
