"""The Bluelink dialect: what the Deploy Engine's clients ask of it while changes are staged."""
