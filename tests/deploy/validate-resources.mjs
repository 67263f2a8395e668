// Reads resources as JSON, one a line, from standard input; says of each whether its type accepts it. The types are
// generated from the operators' own Go types (prometheus-operator, KEDA).
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const packages = {
  'keda.sh/v1alpha1': '@kubernetes-models/keda/keda.sh/v1alpha1',
  'monitoring.coreos.com/v1': '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1',
};

// The validators let fields pass that the types do not know; the declarations beside them list those they do.
function unknownFields(folder, type, value) {
  const declared = readFileSync(`${process.env.NODE_PATH}/${folder}/${type}.d.ts`, 'utf8');
  const known = new Set([...declared.matchAll(/^\s*"(\w+)"\??:/gm)].map((match) => match[1]));
  if (known.size === 0) throw new Error(`no fields in the declaration of ${type}`);
  return Object.keys(value).filter((name) => !known.has(name)).map((name) => `${type} has no field ${name}`);
}

for await (const line of createInterface({ input: process.stdin })) {
  const resource = JSON.parse(line);
  const folder = packages[resource.apiVersion];
  const url = pathToFileURL(`${process.env.NODE_PATH}/${folder}/${resource.kind}.js`);
  const Type = (await import(url))[resource.kind];
  let errors = [];
  try {
    new Type(resource).validate();
    errors = unknownFields(folder, `${resource.kind}Spec`, resource.spec);
  } catch (error) {
    errors = [error.message];
  }
  console.log(JSON.stringify({ kind: resource.kind, name: resource.metadata.name, errors }));
}
