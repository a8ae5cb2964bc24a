"""Ways to ask a backend how it is: http and tcp."""
