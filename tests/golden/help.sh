# The overview and every verb's help name the options of the table.
nd --help
for verb in inspect decouple quantize eval bench sweep compare report reproduce check devices zoo; do
    nd $verb --help >help || echo "$verb: exit $?"
    grep -q "^usage: nd $verb" help || echo "$verb: no usage line"
done
