"""An application for tests whose background work holds the interpreter's lock for as long as it is let."""
