"""What was computed once, on the disk: vision features, base answers, prefix states."""
