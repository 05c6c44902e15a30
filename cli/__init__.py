"""The command line `cos`: each command parses, calls the library, prints. stdout is data, stderr is talk."""
