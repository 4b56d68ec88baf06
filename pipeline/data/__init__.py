"""Images: where they come from, how they are decoded, framed and seen in two views."""
