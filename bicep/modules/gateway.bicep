// The way to a MySQL that is not in the virtual network: a VPN over the Internet, or ExpressRoute.

@description('Name that the resources\' names are made from.')
param name string

@description('Azure region.')
param location string

@description('Whether the other network is reached by VPN; otherwise by ExpressRoute.')
param vpn bool

@description('Resource id of the subnet GatewaySubnet.')
param subnetId string

@description('Public address of the VPN device over there. Only for a VPN.')
param peerAddress string

@description('Address ranges over there. Only for a VPN.')
param peerPrefixes array

@description('Resource id of the ExpressRoute circuit. Only for ExpressRoute.')
param circuitId string

resource address 'Microsoft.Network/publicIPAddresses@2024-05-01' = {
  name: 'pip-${name}'
  location: location
  sku: { name: 'Standard' }
  zones: ['1', '2', '3']
  properties: { publicIPAllocationMethod: 'Static' }
}

resource gateway 'Microsoft.Network/virtualNetworkGateways@2024-05-01' = {
  name: 'vgw-${name}'
  location: location
  properties: {
    gatewayType: vpn ? 'Vpn' : 'ExpressRoute'
    vpnType: 'RouteBased'
    sku: {
      name: vpn ? 'VpnGw1AZ' : 'ErGw1AZ'
      tier: vpn ? 'VpnGw1AZ' : 'ErGw1AZ'
    }
    ipConfigurations: [
      {
        name: 'default'
        properties: {
          privateIPAllocationMethod: 'Dynamic'
          publicIPAddress: { id: address.id }
          subnet: { id: subnetId }
        }
      }
    ]
  }
}

// The connection of a VPN holds a shared key, so it is made by hand: az network vpn-connection create.
resource peer 'Microsoft.Network/localNetworkGateways@2024-05-01' = if (vpn) {
  name: 'lgw-${name}'
  location: location
  properties: {
    gatewayIpAddress: peerAddress
    localNetworkAddressSpace: { addressPrefixes: peerPrefixes }
  }
}

resource connection 'Microsoft.Network/connections@2024-05-01' = if (!vpn) {
  name: 'con-${name}'
  location: location
  properties: {
    connectionType: 'ExpressRoute'
    virtualNetworkGateway1: {
      id: gateway.id
      properties: {}
    }
    peer: { id: circuitId }
  }
}
