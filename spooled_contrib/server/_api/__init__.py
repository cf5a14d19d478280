"""The HTTP face: from bytes to the rules and back."""
