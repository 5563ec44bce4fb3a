"""The runs behind the published figures: `speed` (`make bench`) and `full_size` (`make full`)."""
