"""What belongs to no room: files, archives, downloads, text."""
