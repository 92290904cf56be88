"""What joins meshcore to other libraries that an application may have; each module needs its own."""
