"""What shows or stores rows and findings; judges nothing."""
