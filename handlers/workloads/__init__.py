"""Who works here: the roster of workloads that joined or were declared, and what they say made events."""
