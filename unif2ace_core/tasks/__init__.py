"""What a user asks for: a batch goes in, results come out."""
