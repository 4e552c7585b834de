// One experiment in shares by Nextflow.
//
//   nextflow run experiments/jobs/main.nf --spec SPEC --shares 8
// Paths in the spec start at the spec, so tasks run where it lies.
params.spec = null
params.shares = 4

process share {
    cpus 8
    input:
    val i
    output:
    path "x.shard-${i}-of-${params.shares}"
    script:
    """
    universal-neurons run ${file(params.spec)} --shard ${i}/${params.shares} --out x --threads ${task.cpus}
    """
}

process merge {
    publishDir 'runs', mode: 'copy'
    input:
    path shares
    output:
    path "${file(params.spec).baseName}"
    script:
    """
    universal-neurons merge ${file(params.spec)} ${shares} --out ${file(params.spec).baseName}
    """
}

workflow {
    share(Channel.of(1..params.shares)) | collect | merge
}
