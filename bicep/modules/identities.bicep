// One identity for each workload, which its Kubernetes service account stands for. No workload holds a credential of Azure.

@description('What the identities\' names begin with.')
param prefix string

@description('Azure region.')
param location string

@description('OIDC issuer of the cluster.')
param issuer string

@description('The workloads: objects of name, namespace and serviceAccount.')
param workloads array

resource identities 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = [for workload in workloads: {
  name: '${prefix}-${workload.name}'
  location: location
}]

resource credentials 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = [for (workload, i) in workloads: {
  parent: identities[i]
  name: 'kubernetes'
  properties: {
    issuer: issuer
    subject: 'system:serviceaccount:${workload.namespace}:${workload.serviceAccount}'
    audiences: ['api://AzureADTokenExchange']
  }
}]

@description('The identities: objects of name, clientId and principalId.')
output identities array = [for (workload, i) in workloads: {
  name: workload.name
  clientId: identities[i].properties.clientId
  principalId: identities[i].properties.principalId
}]
