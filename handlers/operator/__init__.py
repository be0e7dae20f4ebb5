"""An operator's overrides: throttle, pause and resume for a while, said with who and until when."""
