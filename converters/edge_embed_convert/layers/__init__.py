"""What the encoders are made of, written so that the delegate takes it whole."""
