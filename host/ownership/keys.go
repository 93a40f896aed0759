package ownership

// TargetPrefix begins the registry's key of each target that a member owns; the
// node's full name follows.
const TargetPrefix = targetPrefix
