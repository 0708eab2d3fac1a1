"""What is there, what is done, what is left: Arrow tables in, Arrow tables out."""
