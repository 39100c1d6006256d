"""What a person reads of a finding, in every language: the sentences are data, `en.toml` and `ko.toml`."""
