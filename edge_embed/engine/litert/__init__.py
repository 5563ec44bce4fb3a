"""All that this package knows about LiteRT."""
