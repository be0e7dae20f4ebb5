"""Programs that tests start as processes: users of the SDK, as anybody would write them."""
