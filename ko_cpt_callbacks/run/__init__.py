"""What a run is: its rows and files, what they come to, and what shows or stores them."""
