# An architecture alone: its layers, and what uniform ranks would cost. The figures are the paper's.
nd inspect vgg16 --method pwdw --rank 4,5
echo
nd inspect vgg16 --method pwdw --rank 3..6 --skip features.24 --skip features.26 --skip features.28 |
    sed -n '/With T/,$p'
echo
nd inspect resnet18 --method pwdw,dwpw,auto --rank 3,4,5 | sed -n '/resnet18:/,$p'
nd inspect vgg16 --json - | sed 's/,"nd_version.*//'
try() { nd "$@" 2>&1; echo "exit $?"; }
try inspect vgg16 --rank 0
try inspect vgg16 --rank 4 --method paint
try inspect vgg17
