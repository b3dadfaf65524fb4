"""Atlas and landmarks, registration, patches, and the graph."""
