//! The table of hostile templates.

/// Text of a megabyte, nearly. As a literal, it costs no fuel.
fn long_text() -> String {
    "a".repeat(1_000_000)
}

fn repeat(n: usize, text: &str) -> String {
    text.repeat(n)
}

fn list_of(n: usize, item: &str) -> String {
    format!("[{}]", vec![item; n].join(","))
}

/// `{% set s = LONG %}`, then `rest` 50,000 times.
fn for_long_text(rest: &str) -> String {
    format!(
        "{{% set s = '{}' %}}{{% set t = s ~ 'b' %}}{{% for i in range(1000) %}}{{% for j in range(50) %}}{rest}{{% endfor %}}{{% endfor %}}",
        long_text()
    )
}

fn loops(body: &str) -> String {
    format!(
        "{{% for i in range(1000) %}}{{% for j in range(1000) %}}{body}{{% endfor %}}{{% endfor %}}"
    )
}

#[allow(clippy::too_many_lines)]
pub(crate) fn table() -> Vec<(&'static str, String)> {
    let chain: String = (0..8000)
        .map(|n| format!("{{%set a{n}=a{}%}}", n + 1))
        .collect();
    let refs = list_of(200, "s");
    vec![
        // Growth.
        (
            "a list doubled by +",
            "{% set x = [1] %}{% for i in range(60) %}{% set x = x + x %}{% endfor %}{{ x }}"
                .into(),
        ),
        ("a list doubled by *", "{{ [1] * 100000000 }}".into()),
        (
            "keys of a map doubled by +",
            format!(
                "{{% for x in {{[1,2]: 1}} %}}{}{{{{ x == x }}}}{{% endfor %}}",
                repeat(60, "{% set x = x + x %}")
            ),
        ),
        (
            "a variable without text between its uses",
            format!("{{% set a = subject.b %}}{}", repeat(50_000, "{{a}}")),
        ),
        ("a variable that may be many labels", {
            let sets = (0..4_000).map(|n| format!("{{%set v=subject.a{n}%}}"));
            sets.collect::<String>() + &repeat(20_000, "{{v}} ")
        }),
        (
            "many labels",
            (0..10_000)
                .map(|n| format!("{{{{subject.a{n}}}}} "))
                .collect(),
        ),
        ("a list in itself", "{% set x = [x] %}{{ x }}".into()),
        (
            "a list in itself, in a loop",
            "{% set x = 1 %}{% for i in range(99) %}{% set x = [x, x] %}{% endfor %}{{ x }}".into(),
        ),
        (
            "lists in themselves by turns",
            "{% set x = [y] %}{% set y = [x] %}{{ x }}".into(),
        ),
        (
            "a list in itself by a conditional",
            "{% set x = 1 if x else [[x]] %}{{ x }}".into(),
        ),
        (
            "a list in itself by or",
            "{% set x = [x or 1] %}{{ x }}".into(),
        ),
        (
            "a list in itself by default",
            "{% set x = [x|default([1])] %}{{ x }}".into(),
        ),
        (
            "a list in itself by items",
            "{% set x = {1: x}|items %}{{ x }}".into(),
        ),
        (
            "a list in itself by cycle",
            "{% for i in range(9) %}{% set x = [loop.cycle(x, [1])] %}{% endfor %}".into(),
        ),
        (
            "a list in itself by with",
            "{% with x = [x] %}{% with x = [x] %}{{ x }}{% endwith %}{% endwith %}".into(),
        ),
        (
            "a list in itself by a tuple",
            "{% set a, b = [[b], [a]] %}{{ a }}".into(),
        ),
        (
            "a list in itself by split",
            "{% set x = x|split(',') %}{{ x }}".into(),
        ),
        (
            "a list in itself by a slice",
            "{% set x = [x[0:1]] %}{{ x }}".into(),
        ),
        (
            "a list in itself by a loop over it",
            "{% set x = [1] %}{% for y in x %}{% set x = [y, [y]] %}{% endfor %}".into(),
        ),
        (
            "the loop in a list",
            "{% for i in range(3) %}{% set x = [loop] %}{{ x }}{% endfor %}".into(),
        ),
        ("zip", "{{ [1]|zip([2]) }}".into()),
        ("chain", "{{ [1]|chain([2]) }}".into()),
        ("dict", "{{ dict(a=1) }}".into()),
        (
            "namespace",
            "{% set n = namespace(x=1) %}{% set n.x = [n] %}{{ n }}".into(),
        ),
        ("sort", "{{ [2, 1]|sort }}".into()),
        ("unique", "{{ [2, 1]|unique }}".into()),
        (
            "a text doubled",
            format!(
                "{{% set x = 'a' %}}{}{{{{ x }}}}",
                repeat(40, "{% set x = x ~ x %}")
            ),
        ),
        (
            "a text doubled by a block",
            format!(
                "{{% set x = 'a' %}}{}{{{{ x }}}}",
                repeat(40, "{% set x %}{{ x }}{{ x }}{% endset %}")
            ),
        ),
        ("a text repeated", "{{ 'a' * 1000000000 }}".into()),
        (
            "a number that may be a text, repeated",
            "{{ ('a'|int('b')) * 1000000000 }}".into(),
        ),
        (
            "a text joined",
            format!("{{% set s = '{}' %}}{{{{ {refs}|join }}}}", long_text()),
        ),
        (
            "a text joined by itself",
            format!(
                "{{% set s = '{}' %}}{{{{ range(1000)|join(s) }}}}",
                long_text()
            ),
        ),
        (
            "lists joined",
            format!(
                "{{% set s = '{}' %}}{{{{ [{refs},{refs}]|join }}}}",
                long_text()
            ),
        ),
        (
            "a list printed",
            format!("{{% set s = '{}' %}}{{{{ {refs} }}}}", long_text()),
        ),
        (
            "a list as JSON",
            format!("{{% set s = '{}' %}}{{{{ {refs}|tojson }}}}", long_text()),
        ),
        (
            "JSON of JSON",
            format!(
                "{{% set s = '\"' %}}{}",
                repeat(40, "{% set s = s|tojson %}")
            ),
        ),
        (
            "JSON kept",
            format!(
                "{{% set s = '{}' %}}{}",
                long_text(),
                repeat(2000, "{% set s = s|tojson %}")
            ),
        ),
        (
            "base64 of base64",
            format!(
                "{{% set s = 'a' %}}{}",
                repeat(100, "{% set s = s|b64encode %}")
            ),
        ),
        (
            "indent",
            format!(
                "{{% set s = '{}' %}}{{{{ s|indent(1000000) }}}}",
                repeat(5000, "\\n")
            ),
        ),
        (
            "a wide indent",
            "{{ 'a'|indent(100000000000, true) }}".into(),
        ),
        ("format width", "{{ '%1000000000d'|format(1) }}".into()),
        (
            "format precision",
            "{{ '%.1000000000f'|format(1.5) }}".into(),
        ),
        ("replace", for_long_text("{{ s|replace('', s) }}")),
        (
            "replace that doubles",
            format!(
                "{{% set x = 'a' %}}{}",
                repeat(40, "{% set x = x|replace('a', 'aa') %}")
            ),
        ),
        (
            "a huge range",
            "{% for i in range(1000000000) %}{% endfor %}".into(),
        ),
        (
            "split in characters",
            for_long_text("{% set x = s|split('') %}"),
        ),
        ("list of characters", for_long_text("{% set x = s|list %}")),
        ("urlencode", for_long_text("{% set x = s|urlencode %}")),
        (
            "a power",
            "{{ 10 ** 1000000000 }}{{ 2.5 ** 1000000000 }}".into(),
        ),
        // Work that is not metered by instruction.
        ("endless loops", loops("")),
        (
            "comparison of long texts",
            for_long_text("{% if s ~ 'c' == t %}{% endif %}"),
        ),
        (
            "comparison of long variables",
            format!(
                "{{% set u = 'x' %}}{}",
                for_long_text("{% if s == t %}{% endif %}")
            ),
        ),
        (
            "comparison of lists",
            for_long_text("{% if [s, s, s] == [t, t, t] %}{% endif %}"),
        ),
        (
            "order of nested lists",
            format!(
                "{{% set s = '{}' %}}{{% set l = [[{refs}]] %}}{}",
                long_text(),
                loops("{% if l < l %}{% endif %}")
            ),
        ),
        ("the test eq of lists", "{{ [1] is eq([1]) }}".into()),
        (
            "in a list of long texts",
            for_long_text("{{ 1 if t in [s, s, s] }}"),
        ),
        (
            "a list in a text",
            format!(
                "{{% set s = '{}' %}}{}",
                long_text(),
                loops(&format!("{{{{ {refs} in s }}}}"))
            ),
        ),
        ("a text in a text", for_long_text("{{ 1 if 'ab' in s }}")),
        (
            "a long key of a map",
            for_long_text("{{ {t: 1}[s] is defined }}"),
        ),
        (
            "a list as a key",
            for_long_text("{{ {1: 1}[[s, s]] is defined }}"),
        ),
        (
            "startingwith",
            for_long_text("{{ 1 if t is startingwith(s) }}"),
        ),
        (
            "startingwith a list",
            for_long_text("{{ 1 if [t] is startingwith('a') }}"),
        ),
        (
            "changed",
            for_long_text("{% if loop.changed(t) %}{% endif %}"),
        ),
        (
            "changed lists",
            for_long_text("{% if loop.changed([t, t]) %}{% endif %}"),
        ),
        ("trim of many characters", for_long_text("{{ s|trim(t) }}")),
        (
            "trim",
            for_long_text("{% set x = s|trim('abcdefghijklmno') %}"),
        ),
        (
            "a slice of a long text",
            for_long_text("{% set x = s[::-100000] %}"),
        ),
        (
            "a slice of a label",
            loops("{% set x = subject.label1[::-100000] %}"),
        ),
        (
            "the end of a list",
            format!(
                "{{% set l = 'a'|split('') %}}{{% set l = range(1000)|list %}}{}",
                loops("{% for x in l[999:] %}{% endfor %}")
            ),
        ),
        (
            "slices of slices",
            format!(
                "{{% set l = [1, 2] %}}{}{{{{ l }}}}",
                repeat(10000, "{% set l = l[:] %}")
            ),
        ),
        (
            "slices of slices in a loop",
            "{% set l = [1, 2] %}{% for i in range(1000) %}{% set l = l[:] %}{% endfor %}{{ l }}"
                .into(),
        ),
        (
            "slices of slices in one expression",
            format!("{{% set l = [1, 2] %}}{{{{ l{} }}}}", repeat(150, "[:]")),
        ),
        (
            "reverse of reverse",
            format!(
                "{{% set l = range(9) %}}{}{{{{ l }}}}",
                repeat(8000, "{% set l = l|reverse %}")
            ),
        ),
        ("last of a range", loops("{{ range(1000)|last }}")),
        (
            "first of a reverse",
            loops("{{ range(1000)|list|reverse|first }}"),
        ),
        (
            "length of a slice",
            format!(
                "{{% set l = range(1000)|list %}}{}",
                loops("{{ l[::2]|length }}")
            ),
        ),
        (
            "truth of a slice",
            format!(
                "{{% set l = range(1000)|list %}}{}",
                loops("{% if l[::2] %}{% endif %}")
            ),
        ),
        ("round to many digits", loops("{{ 1.5|round(-300) }}")),
        (
            "round to many digits by name",
            loops("{% set x = 1.5|round(precision=-300) %}"),
        ),
        (
            "loops over a long text",
            for_long_text("{% for c in s %}{% break %}{% endfor %}"),
        ),
        ("config URLs", loops("{% if config0 %}{% endif %}")),
        ("config URLs printed", loops("{{ config0 }}")),
        (
            "encoded labels",
            loops("{% if encoded.label1 %}{% endif %}"),
        ),
        (
            "labels of the profile",
            loops("{% if profile.labels %}{% endif %}"),
        ),
        (
            "length of the subject",
            loops("{% if subject|length %}{% endif %}"),
        ),
        ("the subject as JSON", loops("{% set x = subject|tojson %}")),
        (
            "the subject printed",
            loops("{% set x %}{{ subject }}{% endset %}"),
        ),
        ("items of the subject", loops("{% set x = subject|items %}")),
        (
            "items of labels",
            loops("{% set x = profile.labels|items %}"),
        ),
        (
            "nested frames",
            format!(
                "{}{}{}",
                repeat(70, "{% with %}"),
                loops("{% if subject %}{% endif %}"),
                repeat(70, "{% endwith %}")
            ),
        ),
        (
            "formatting of long texts",
            format!(
                "{{% set s = '{}' %}}{{{{ '{}'|format({}) }}}}",
                long_text(),
                repeat(200, "%s"),
                vec!["s"; 200].join(",")
            ),
        ),
        (
            "formatting of one long text",
            format!(
                "{{% set s = '{}' %}}{{{{ '{}'|format(a=s) }}}}",
                long_text(),
                repeat(3000, "%(a)s")
            ),
        ),
        (
            "formatting by %",
            format!(
                "{{% set s = '{}' %}}{{{{ '{}' % 1 }}}}",
                long_text(),
                repeat(200, "%s")
            ),
        ),
        (
            "an item of a long text",
            for_long_text("{% set x = s[239999] %}"),
        ),
        (
            "an item of a label",
            loops("{% set x = subject.label1[1000] %}"),
        ),
        (
            "a slice of a literal",
            format!(
                "{{% set s = '{}' %}}{}",
                repeat(512, "é"),
                loops("{% set x = s[::-4000] %}")
            ),
        ),
        (
            "a long text, compared with a short one",
            for_long_text("{% if s == 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' %}{% endif %}"),
        ),
        (
            "a walk over a slice of a walk",
            loops("{% for x in (range(1000)|list)[999:] %}{% endfor %}"),
        ),
        (
            "a condition on a loop",
            "{% for i in range(1000) if range(1000)|list|length %}{% endfor %}".into(),
        ),
        (
            "a replacement that finds nothing",
            for_long_text("{% set x = s|replace('aaaaaaaaaaab', 'c') %}"),
        ),
        (
            "many variables",
            (0..9000).map(|n| format!("{{%set v{n}='{n}'%}}")).collect(),
        ),
        ("many short expressions", repeat(40_000, "{{1}}")),
        ("many braces", repeat(250_000, "{##}")),
        ("many lines", repeat(1_000_000, "\n") + "{{ x y }}"),
        (
            "many short expressions on many lines",
            repeat(66_000, "{{1}}\n"),
        ),
        ("more tokens than are allowed", repeat(70_000, "{{1}}")),
        // On separate lines, because a build with overflow checks panics at a syntax error in
        // column 65,535 (minijinja 3.1.0, lexer.rs, line 377).
        ("an open block", repeat(250_000, "{%\n")),
        ("open raw blocks", repeat(90_000, "{% raw %}\n")),
        ("only quotes", format!("{{{{ {} }}}}", repeat(100_000, "'"))),
        (
            "a long number",
            format!("{{{{ {} }}}}", repeat(30_000, "9")),
        ),
        (
            "the number of a long text",
            for_long_text("{% set x = s|int(0) %}"),
        ),
        (
            "the number of many digits",
            format!(
                "{{% set s = '{}' %}}{}",
                repeat(200_000, "9"),
                loops("{% set x = s|float %}")
            ),
        ),
        // Depth.
        ("deep ~", format!("{{{{ 1{} }}}}", repeat(20_000, "~1"))),
        (
            "deep ~ within the limit",
            format!("{{{{ 1{} }}}}", repeat(240, "~1")),
        ),
        ("deep not", format!("{{{{ {}1 }}}}", repeat(20_000, "not "))),
        ("deep -", format!("{{{{ {}1 }}}}", repeat(20_000, "-"))),
        (
            "deep |abs",
            format!("{{{{ 1{} }}}}", repeat(20_000, "|abs")),
        ),
        (
            "deep |abs within the limit",
            format!("{{{{ 1{} }}}}", repeat(240, "|abs")),
        ),
        (
            "deep attributes",
            format!("{{{{ subject{} }}}}", repeat(20_000, ".a")),
        ),
        (
            "deep attributes within the limit",
            format!("{{{{ subject{} }}}}", repeat(240, ".a")),
        ),
        (
            "deep items",
            format!("{{{{ subject{} }}}}", repeat(160, "[0]")),
        ),
        (
            "deep parentheses",
            format!("{{{{ {}1{} }}}}", repeat(20_000, "("), repeat(20_000, ")")),
        ),
        (
            "deep lists",
            format!("{{{{ {}1{} }}}}", repeat(20_000, "["), repeat(20_000, "]")),
        ),
        (
            "deep lists within the limit",
            format!(
                "{{% set x = {}1{} %}}{{{{ x }}}}{{{{ x|tojson }}}}",
                repeat(120, "["),
                repeat(120, "]")
            ),
        ),
        (
            "deep maps",
            format!(
                "{{{{ {}1{} }}}}",
                repeat(20_000, "{1:"),
                repeat(20_000, "}")
            ),
        ),
        (
            "deep if-expressions",
            format!("{{{{ {}1 }}}}", repeat(20_000, "1 if 1 else ")),
        ),
        (
            "deep if-expressions within the limit",
            format!("{{{{ {}1 }}}}", repeat(120, "1 if 1 else ")),
        ),
        (
            "deep comparisons",
            format!("{{{{ 1{} }}}}", repeat(240, "==1")),
        ),
        ("deep powers", format!("{{{{ 1{} }}}}", repeat(240, "**1"))),
        ("deep and", format!("{{{{ 1{} }}}}", repeat(240, " and 1"))),
        (
            "deep elif",
            format!(
                "{{% if 1 %}}{}{{% endif %}}",
                repeat(20_000, "{% elif 1 %}")
            ),
        ),
        (
            "deep elif within the limit",
            format!("{{% if 1 %}}{}{{% endif %}}", repeat(128, "{% elif 1 %}")),
        ),
        (
            "deep if",
            format!(
                "{}{}",
                repeat(9_000, "{% if 1 %}"),
                repeat(9_000, "{% endif %}")
            ),
        ),
        (
            "deep for",
            format!(
                "{}{}",
                repeat(140, "{% for i in [1] %}"),
                repeat(140, "{% endfor %}")
            ),
        ),
        (
            "deep else",
            format!(
                "{}{}",
                repeat(6_000, "{% if 1 %}{% else %}"),
                repeat(6_000, "{% endif %}")
            ),
        ),
        (
            "deep set blocks",
            format!(
                "{}{}",
                repeat(140, "{% set x %}"),
                repeat(140, "{% endset %}")
            ),
        ),
        ("deep statements around a deep expression", {
            let elifs = repeat(60, "{% elif 1 %}");
            let ifs = repeat(70, &format!("{{% if 1 %}}{elifs}{{% else %}}"));
            format!(
                "{ifs}{{{{ 1{} }}}}{}",
                repeat(240, "~1"),
                repeat(70, "{% endif %}")
            )
        }),
        (
            "deep targets",
            format!(
                "{{% set {}a{} = 1 %}}",
                repeat(20_000, "("),
                repeat(20_000, ",)")
            ),
        ),
        // Work for the checker.
        (
            "variables set from the next",
            format!("{chain}{{%set a8000=1%}}"),
        ),
        (
            "a long unknown name",
            format!(
                "{{% set {} = 1 %}}{{{{ {} }}}}",
                "b".repeat(110_000),
                "a".repeat(110_000)
            ),
        ),
        (
            "a long unknown filter",
            format!("{{{{ 1|{} }}}}", "a".repeat(200_000)),
        ),
        (
            "a long name in a loop",
            format!(
                "{{% set {0} = 1 %}}{1}",
                "b".repeat(80_000),
                loops(&format!("{{% if {} %}}{{% endif %}}", "b".repeat(80_000)))
            ),
        ),
        (
            "many unknown names",
            format!(
                "{}{{{{ unknwon }}}}",
                (0..9000)
                    .map(|n| format!("{{%set unknown{n}=1%}}"))
                    .collect::<String>()
            ),
        ),
        ("a source that is too long", "a".repeat(256 * 1024 + 1)),
        ("unpacked arguments", "{{ 'a'|replace(*[1, 2]) }}".into()),
        (
            "recursion",
            "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".into(),
        ),
        (
            "a macro",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        ),
        ("include", "{% include 'config0' %}".into()),
    ]
}
