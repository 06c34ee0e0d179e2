"""iPhones over USB. An iPhone has no shell: melt's app is the runner, and files and programs are Apple's services'."""
