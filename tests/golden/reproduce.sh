# Published tables beside ours, as far as no weights are needed.
nd reproduce
for table in vgg16-uniform vgg16-layers resnet18-uniform paper-table1 paper-readme paper-abstract paper-issue2; do
    nd reproduce $table
done
nd reproduce vgg16-uniform --json - | sed 's/,"nd_version.*//' | head -3
nd reproduce table9 2>&1 || echo "exit $?"
nd reproduce paper-table1 --data imagefolder:. 2>&1 || echo "exit $?"
nd reproduce all vgg16 2>&1 || echo "exit $?"
