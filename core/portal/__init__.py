"""What all of the admin portal shares: its door, its lists, its forms and its filters."""
