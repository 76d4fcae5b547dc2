use super::*;

/// Returns the rule, the line, and the text under the caret of each remark.
fn remarks(script: &str) -> Vec<(&'static str, usize, String)> {
    let under = |remark: &Remark| {
        let line: Vec<char> = script
            .lines()
            .nth(remark.line - 1)
            .unwrap_or_default()
            .chars()
            .collect();
        line.get(remark.columns.start - 1..remark.columns.end - 1)
            .map(|chars| chars.iter().collect())
            .unwrap_or_default()
    };
    lint(script, "efi")
        .iter()
        .map(|remark| (remark.rule.id, remark.line, under(remark)))
        .collect()
}

fn only(script: &str) -> Remark {
    let remarks = lint(&format!("#!ipxe\n{script}\n"), "efi");
    assert_eq!(remarks.len(), 1, "{script}: {remarks:#?}");
    remarks.into_iter().next().unwrap()
}

fn says(script: &str, rule: &str, message: &str, help: Option<&str>) {
    let remark = only(script);
    assert_eq!(
        (
            remark.rule.id,
            remark.message.as_str(),
            remark.help.as_deref()
        ),
        (rule, message, help),
        "{script}"
    );
}

#[test]
fn each_rule_reports_its_message() {
    says(
        "chain http://h/x|| goto x\n:x",
        "ipxe-glued-operator",
        "|| is part of the word \"http://h/x||\": iPXE recognizes it only as a separate word",
        Some("put spaces around ||"),
    );
    says(
        "dhcp &&boot",
        "ipxe-glued-operator",
        "&& is part of the word \"&&boot\": iPXE recognizes it only as a separate word",
        Some("put spaces around &&"),
    );
}

#[test]
fn an_unknown_name_gets_a_hint() {
    says(
        "kernle http://h/k",
        "ipxe-unknown-command",
        "iPXE has no command \"kernle\" (did you mean `kernel`?)",
        None,
    );
    says(
        "goto rety\n:retry",
        "ipxe-no-such-label",
        "there is no label :rety in this script (did you mean `retry`?)",
        None,
    );
    says(
        "iseq ${buildarch} amd64 && boot ||",
        "ipxe-never-equal",
        "${buildarch} is never \"amd64\" in iPXE",
        Some("write x86_64"),
    );
    says(
        "iseq ${platform} uefi && boot ||",
        "ipxe-never-equal",
        "${platform} is never \"uefi\" in iPXE",
        Some("write efi"),
    );
    let remark = only("echo ${serial:uristrng}");
    assert_eq!(
        remark.message,
        "unknown setting type \"uristrng\" (did you mean `uristring`?)"
    );
    assert!(
        remark
            .help
            .unwrap()
            .starts_with("there are string, uristring, ipv4,")
    );
    says(
        "echo ${serial number}",
        "ipxe-unclosed-setting",
        "${ has no } in the word \"${serial\": iPXE splits a line at spaces first, and does not expand it",
        Some("write ${NAME} without spaces in it"),
    );
}

#[test]
fn overlong_lines_are_reported() {
    let words = |n: usize| format!("echo {}", vec!["a"; n - 1].join(" "));
    assert!(lint(&words(200), "efi").is_empty());
    assert_eq!(only(&words(201)).rule.id, "ipxe-many-words");
    assert_eq!(only(&words(255)).rule.id, "ipxe-many-words");
    assert_eq!(only(&words(256)).rule.id, "ipxe-too-many-words");
    // Each command is counted by itself; a comment counts only where the line hangs.
    assert_eq!(
        only(&format!("{} ; {}", words(200), words(200))).rule.id,
        "ipxe-many-words"
    );
    assert_eq!(
        only(&format!("# {}", words(499))).rule.id,
        "ipxe-too-many-words"
    );
    assert_eq!(
        only(&format!("echo {}", "a".repeat(4092))).rule.id,
        "ipxe-long-line"
    );
    assert!(lint(&format!("echo {}", "a".repeat(4091)), "efi").is_empty());
}

#[test]
fn a_remark_marks_the_offending_word() {
    let script = "#!ipxe\necho Grüße\n# Grüße\nkernel http://h/k \\\n  initrd=i console=x||\ninitrd http://h/i\nboot\\ \n";
    assert_eq!(
        remarks(script),
        [
            ("ipxe-non-ascii", 2, "Grüße".to_owned()),
            ("ipxe-glued-operator", 5, "console=x||".to_owned()),
            ("ipxe-unknown-command", 7, "boot\\".to_owned()),
            ("ipxe-backslash-space", 7, "\\".to_owned()),
        ]
        .into_iter()
        .collect::<Vec<_>>()
    );
}

#[test]
fn a_uefi_kernel_without_an_initrd_argument_is_reported() {
    let script = |kernel: &str| {
        format!(
            "#!ipxe\nkernel http://h/vmlinuz {kernel}\ninitrd http://h/dir/initrd.gz?x=1\nboot\n"
        )
    };
    let of = |kernel: &str, platform: &str| {
        lint(&script(kernel), platform)
            .into_iter()
            .map(|r| (r.rule.id, r.help))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("quiet", "efi"),
        [(
            "ipxe-kernel-without-initrd",
            Some("add initrd=initrd.gz to this line".to_owned())
        )]
    );
    assert_eq!(of("quiet", "pcbios"), []);
    assert_eq!(of("initrd=initrd.gz", "efi"), []);
    assert_eq!(of("initrd=initrd.magic", "efi"), []);
    assert_eq!(of("${args}", "efi"), []);
    assert_eq!(of("initrd=initrd.img", "efi"), [("ipxe-initrd-name", None)]);
    assert!(
        lint(
            "#!ipxe\nkernel http://h/wimboot\ninitrd http://h/boot.wim boot.wim\nboot\n",
            "efi"
        )
        .is_empty()
    );
    assert!(
        lint(
            "#!ipxe\nkernel http://h/k initrd=main\ninitrd --name main http://h/i\nboot\n",
            "efi"
        )
        .is_empty()
    );
    assert!(
        lint(
            "#!ipxe\nkernel http://h/k initrd=a initrd=b\ninitrd --name ${x} http://h/i\nboot\n",
            "efi"
        )
        .is_empty()
    );
}

#[test]
fn a_retry_loop_that_the_first_failure_ends_is_reported() {
    let remark = &lint(
        "#!ipxe\n:retry\nchain http://h/x || exit\nsleep 2\ngoto retry\n",
        "efi",
    )[0];
    assert_eq!((remark.rule.id, remark.line), ("ipxe-exit-in-retry", 3));
    assert!(
        lint(
            "#!ipxe\n:retry\nchain http://h/x && exit || goto retry\n",
            "efi"
        )
        .is_empty()
    );
    assert!(lint("#!ipxe\nchain http://h/x || exit\n", "efi").is_empty());
}

#[test]
fn other_traps_are_reported() {
    assert_eq!(only("set url \"http://h/a b\"").rule.id, "ipxe-quotes");
    assert_eq!(only("chain http://h/x#y").rule.id, "ipxe-url-fragment");
    assert!(lint("chain http://h/x##params", "efi").is_empty());
    assert_eq!(
        only("set line http://h/k quiet\nkernel ${line}").rule.id,
        "ipxe-one-word"
    );
    assert_eq!(only("echo a# b").rule.id, "ipxe-glued-comment");
    assert_eq!(only("echo \u{7}").rule.id, "ipxe-control-character");
    assert_eq!(only(":a\n:a\ngoto a").rule.id, "ipxe-duplicate-label");
}

#[test]
fn the_bootstrap_script_has_no_remarks() {
    let script =
        include_str!("../../api/src/bootstrap.ipxe").replace("@BASE_URL@", "http://192.0.2.1:8080");
    for platform in ["efi", "pcbios"] {
        assert_eq!(lint(&script, platform), []);
    }
}

#[test]
fn realistic_scripts_have_no_remarks() {
    let scripts = [
        "#!ipxe\n\nisset ${ip} || dhcp || echo DHCP failed\n:menu\nmenu Boot [IP: ${netX/ip}]\nitem --gap Default:\nitem --key x exit ${space} Disk [x]\nchoose --timeout 4000 --default exit target || goto cancel\ngoto ${target}\n:cancel\nshell\ngoto menu\n:exit\nsanboot --no-describe --drive 0x80 || exit\n",
        "#!ipxe\nset base http://h/coreos\nkernel ${base}/vmlinuz initrd=main coreos.live.rootfs_url=${base}/rootfs ignition.config.url=http://h/c?a=1&b=2 console=tty0 console=ttyS0,115200n8 ip=dhcp ds=nocloud-net;s=http://h/ # the console\ninitrd --name main ${base}/initramfs\nboot\n",
        "#!ipxe\nset space:hex 20:20\nset space ${space:string}\ncpuid --ext 29 && set arch x86_64 || set arch i386\nset i:int32 0\n:loop\nisset ${net${i}/mac} || goto done\necho ${net${i}/mac:hexhyp}\ninc i\ngoto loop\n:done\nparams\nparam uuid ${uuid}\nchain --replace --autofree http://h/next##params || shell\n",
        "#!ipxe\r\nkernel http://h/k initrd=i\r\ninitrd http://h/i\r\nboot || goto failed\r\n:failed\r\necho failed; press a key\r\nprompt\r\n",
    ];
    for script in scripts {
        assert_eq!(
            lint(script, "efi")
                .iter()
                .map(|remark| (remark.rule.id, remark.line))
                .collect::<Vec<_>>(),
            vec![],
            "{script}"
        );
    }
}
