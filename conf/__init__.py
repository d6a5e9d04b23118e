"""The config groups of `stagetransfer train`; in the repository they lie in conf/."""
