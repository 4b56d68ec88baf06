"""Where images come from: one file for each layout that is read as it was downloaded."""
