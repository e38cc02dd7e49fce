"""X and y in any form, from the user's hands to images that are read."""
