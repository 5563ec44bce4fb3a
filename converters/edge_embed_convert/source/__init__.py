"""The checkpoint as it comes: configuration, weights, tokenizer, and the reference model."""
