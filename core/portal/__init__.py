"""The shared parts of the admin portal: permissions, changelists, forms and filters."""
