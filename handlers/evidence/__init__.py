"""What a process looks like from outside and inside, gathered when somebody asks for it and without stopping it."""
