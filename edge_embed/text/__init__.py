"""Text to token ids: prompts, windows and tokenizers."""
