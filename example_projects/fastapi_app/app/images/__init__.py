"""Pictures: uploading them, and the jobs that make thumbnails."""
