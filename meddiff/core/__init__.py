"""What every module stands on; it imports no method and no network."""
