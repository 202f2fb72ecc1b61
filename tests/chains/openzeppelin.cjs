// The trees that OpenZeppelin's library makes, for comparison: nodes, proofs, and how long they take.
//
//   node openzeppelin.cjs CHAIN_ID CONTRACT TOKEN PROOFS COUNT... < claims
//
// Each claim is 20 bytes of account and 32 of amount. For each COUNT one line of JSON: the tree of the first COUNT
// claims, with proofs for the first PROOFS of them.
const {StandardMerkleTree} = require("@openzeppelin/merkle-tree");
const {readFileSync} = require("node:fs");

const [chainId, contract, token, proofsMax, ...counts] = process.argv.slice(2);
const claims = readFileSync(0);
const values = [];
for (let at = 0; at < claims.length; at += 52) {
    const account = "0x" + claims.toString("hex", at, at + 20);
    const amount = BigInt("0x" + claims.toString("hex", at + 20, at + 52)).toString();
    values.push([chainId, contract, account, token, amount]);
}
const seconds = (since) => Number(process.hrtime.bigint() - since) / 1e9;

for (const count of counts.map(Number)) {
    const chosen = values.slice(0, count);
    let started = process.hrtime.bigint();
    const tree = StandardMerkleTree.of(chosen, ["uint256", "address", "address", "address", "uint256"]);
    const treeSeconds = seconds(started);

    const proofs = [];
    started = process.hrtime.bigint();
    for (let index = 0; index < Math.min(count, Number(proofsMax)); index++) proofs.push(tree.getProof(index));
    const proofsSeconds = seconds(started);

    const nodes = count <= 1000 ? tree.dump().tree : null;
    const memoryMb = process.resourceUsage().maxRSS / 1000;
    console.log(JSON.stringify({root: tree.root, nodes, proofs, treeSeconds, proofsSeconds, memoryMb}));
}
