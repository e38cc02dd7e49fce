"""X and y in any form, converted to images that the training reads."""
