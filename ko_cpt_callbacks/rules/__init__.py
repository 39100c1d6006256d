"""The judge: rules in families, one file a rule; `registry` is the whole list, `monitor` the fold."""
