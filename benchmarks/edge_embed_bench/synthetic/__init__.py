"""Models of released shapes with random weights: `models` builds and keeps them."""
