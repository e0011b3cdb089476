"""What cutting an image comes to: its tiles, their label rows, and the counts of both."""
