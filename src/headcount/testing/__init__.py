"""What users and authors of stores need to test with. Nothing here is imported in production."""
