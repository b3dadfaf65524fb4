"""Drawing one subject: body, bones, airways and vessels, lung tissue."""
