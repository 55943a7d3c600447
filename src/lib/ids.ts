import { randomBytes, randomInt } from 'node:crypto';

/** A container's full ID: 64 lower-case hex digits. */
export type ContainerId = string & { readonly __brand: 'ContainerId' };

/** A new random ID of 64 hex digits. An all-digit prefix is avoided: such a short ID is no valid host name. */
export function newId(): string {
  for (;;) {
    const id = randomBytes(32).toString('hex');
    if (/[a-f]/.test(id.slice(0, 12))) return id;
  }
}

/** The 12 digits that people read and type. */
export function shortId(id: string): string {
  return id.slice(0, 12);
}

const manners = (
  'able agile airy amber apt ardent awake balmy basic blithe bold brave breezy brisk calm candid careful civil ' +
  'clear clever coastal cool cosy crisp daring deft direct eager early earnest easy even fair fast firm fleet ' +
  'frank free fresh gentle glad golden good grand hale handy hardy honest humble jolly just keen kind level light ' +
  'lively loyal lucid lucky merry mild modest neat nimble noble open patient plain polite prompt proud quick quiet ' +
  'ready robust rosy sane sharp silent simple sleek smart snug sober solid spry stable steady still strong sturdy ' +
  'sunny sure swift tidy timely tough true upbeat vital warm wary wise witty zesty'
).split(' ');

const seafarers = (
  'albatross auk barnacle beacon bittern breaker buoy cockle cod conger coral cormorant cove crab curlew current ' +
  'cutter dolphin dory dunlin eel eider fathom fulmar gannet grebe gull guillemot haddock halyard harbour heron ' +
  'herring islet jetty kelp kittiwake lagoon lamprey ledge lighthouse limpet ling lobster mackerel marlin mast ' +
  'merlin minnow mooring mussel narwhal oar octopus orca osprey otter oyster pelican penguin perch petrel pilot ' +
  'plover porpoise prawn puffin quay ray reef rigging rudder sail salmon sandpiper scallop seal shearwater shoal ' +
  'skerry skiff skua sloop sole spray squid starfish stint tern tide trawler trout turbot turnstone urchin wave whale wharf'
).split(' ');

/** A name for a container that was given none, such as `brisk_puffin`; from the second try on with a digit. */
export function randomName(attempt = 0): string {
  const name = `${pick(manners)}_${pick(seafarers)}`;
  return attempt === 0 ? name : `${name}${randomInt(10 ** Math.min(attempt, 6))}`;
}

function pick(words: readonly string[]): string {
  return words[randomInt(words.length)] ?? 'skerry';
}
