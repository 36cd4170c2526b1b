# The architectures, as a table and as rows.
nd zoo
nd zoo --json - | sed 's/,"nd_version.*//' | grep -c '"verb":"zoo"'
nd zoo --json - | sed 's/,"nd_version.*//' | grep '"vgg16"'
