"""The rooms of `/api/v1`, one module for each subject."""
